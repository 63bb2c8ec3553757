"""The demo: a small HTTP agent of our own, and the files that run three of them."""
