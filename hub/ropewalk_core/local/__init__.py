"""The backend of one machine: processes, folders and a sandbox per account."""
