"""What is read of a store: only what lies in it, compared with its hashes before it is used."""
