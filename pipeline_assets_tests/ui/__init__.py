"""The UI in a real browser, the daemon at work behind it."""
