"""The two functions; thin, because everything they decide lives in the shared core."""
