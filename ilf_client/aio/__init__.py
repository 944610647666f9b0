"""The asynchronous client, one file a noun. The synchronous twin (`ilf_client.sync`) follows from it."""
