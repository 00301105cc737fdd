"""The pages: server-rendered HTML with small live parts. `router` is what the application includes.

Reads and acts go through the guarded ports of ``request.app.state.platform``, as the REST interface does. Nothing that
people wrote is rendered as HTML. Rejected: a single-page application, which shows nothing before its bundle came.
"""
