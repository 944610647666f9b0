"""Best-of-N and evaluation over datasets: through the SDK alone, resumable, in bounded memory."""
