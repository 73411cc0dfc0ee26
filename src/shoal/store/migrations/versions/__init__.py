"""One file per revision, never edited once released; tests build old stores with them."""
