"""Tasks from what others have written: a bare module, a LightningModule."""
