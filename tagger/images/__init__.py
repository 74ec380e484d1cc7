"""From a reference to pixels."""
