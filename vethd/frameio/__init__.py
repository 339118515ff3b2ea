"""Where frames come from and go to: one small interface (base) and its implementations."""
