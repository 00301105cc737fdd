"""Examples: each file is documentation, a test, and beside it the Argo manifest that it compiles to."""
