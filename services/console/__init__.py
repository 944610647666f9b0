"""The console: annotators write feedback in the browser, engineers look at runs."""
