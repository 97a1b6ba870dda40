"""Arrays in files of others (`.npz`, pickles, parquet), read without believing or running them."""
