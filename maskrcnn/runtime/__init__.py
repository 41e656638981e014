"""The machine and the backend: choosing, compiling, distributing; files and hardware."""
