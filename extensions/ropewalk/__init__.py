"""What people import: step, workflow, function, Placement, functions, services, files, runs, submit."""
