"""Work on whole photos: restoration, enhancement and cut-outs of files and folders."""
