"""The five services and the console on one machine: their configuration, their processes, and where they are."""
