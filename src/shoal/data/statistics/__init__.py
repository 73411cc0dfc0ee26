"""One profile format for ingestion, training and serving: counts and histograms that add up exactly, in any order."""
