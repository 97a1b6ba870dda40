"""LMDBs of features, as RULSTM and AVT publish and read them: in as a stream, and out again."""
