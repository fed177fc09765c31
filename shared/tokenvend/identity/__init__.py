"""Our own identity, proved in the form Google's Security Token Service takes."""
