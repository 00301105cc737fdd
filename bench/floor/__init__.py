"""The floors that warm calls are measured against, and what measures them: C with epoll, and uvloop with httptools."""
