package main

import "io"

// env are the standard streams.
type env struct {
	stdin          io.Reader
	stdout, stderr io.Writer
}
