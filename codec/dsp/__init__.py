"""Signal processing on blocks of samples."""
