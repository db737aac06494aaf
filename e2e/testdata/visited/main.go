// Visited is a service for containers that have nothing else: it tells each visitor the ip:port that it sees, on a line, and
// sends back what the visitor says from then on.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"os"
)

func main() {
	l, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening")
	for {
		c, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			defer c.Close()
			fmt.Fprintln(c, c.RemoteAddr())
			_, _ = io.Copy(c, c)
		}()
	}
}
