"""Where live pictures and sound go: files, playlists, servers, virtual cameras."""
