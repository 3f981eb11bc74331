"""What can be done, one module for each subject: plain functions of a connection, a command and tools."""
