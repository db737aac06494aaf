package load

import (
	"io"
	"os"
)

// Streams are the standard streams of a program.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Standard returns the streams of this process.
func Standard() Streams {
	return Streams{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
}
