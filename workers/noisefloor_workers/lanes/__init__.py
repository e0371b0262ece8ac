"""What this machine can run, and how a process is bound to it. Import-free: `isa` is used without torch."""
