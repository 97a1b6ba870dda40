"""Long-term anticipation by teachers: what they say of the actions after the next, and figures."""
