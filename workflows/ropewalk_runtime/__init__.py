"""What runs user code in every sandbox and image. Standard library only."""
