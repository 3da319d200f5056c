"""Studies: several settings and seeds side by side, and what their differences are worth."""
