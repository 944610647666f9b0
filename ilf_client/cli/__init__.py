"""The `ilf` command."""
