"""The process that scores answered rows by a challenger as well, and a worker's side of it."""
