"""The five services on one machine: their configuration, their processes, and where they are."""
