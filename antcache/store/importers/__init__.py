"""Features and predictions that others have made, brought into a store, and the way back."""
