"""Pictures in folders: a card, an archive, a share that cameras write to."""
