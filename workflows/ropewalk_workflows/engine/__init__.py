"""The local engine: a pure `step(state, event) -> (state, actions)`, and the thin shell that acts on it."""
