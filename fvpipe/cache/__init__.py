"""What is kept between runs on disk: file cache, sample store, decoder crashes."""
