"""The `pioxide` command: one file a command, which calls one function and prints what comes of it."""
