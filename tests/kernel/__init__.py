"""The notebook kernel's side: handles, magics and cards, with a real IPython shell and a small platform in memory."""
