"""Work on whole photos: restoration and enhancement of files and folders."""
