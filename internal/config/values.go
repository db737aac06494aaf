package config

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"portredirector/internal/route"
)

// once is the value of a flag that may be given once.
type once struct {
	at  *string
	set bool
}

func (o *once) String() string {
	if o.at == nil {
		return ""
	}
	return *o.at
}

func (o *once) Type() string { return "address" }

func (o *once) Set(s string) error {
	if o.set {
		return fmt.Errorf("it was given already, as %s", *o.at)
	}
	*o.at, o.set = s, true
	return nil
}

// file is the value of a flag that names a file. An empty one, as of a variable that is not set, would
// leave the other end without authentication.
type file string

func (f *file) String() string { return string(*f) }
func (f *file) Type() string   { return "string" }

func (f *file) Set(s string) error {
	if s == "" {
		return errors.New("it is the name of a file, and empty")
	}
	*f = file(s)
	return nil
}

// duration is the value of a flag with a duration.
type duration time.Duration

// String returns "0" for none, which help does not show as a default.
func (d *duration) String() string {
	if *d == 0 {
		return "0"
	}
	return time.Duration(*d).String()
}

func (d *duration) Type() string { return "duration" }

func (d *duration) Set(s string) error {
	value, err := time.ParseDuration(s)
	if err != nil {
		if _, nerr := strconv.ParseFloat(s, 64); nerr == nil {
			return errors.New("give a unit, as in 120s or 2m")
		}
		return errors.New("it is no duration: give a number and a unit, as in 120s or 2m")
	}
	*d = duration(value)
	return nil
}

// mask is the value of --mark: the bits of the packet mark to use.
type mask uint32

func (m *mask) String() string { return fmt.Sprintf("%#x", uint32(*m)) }
func (m *mask) Type() string   { return "mask" }

func (m *mask) Set(s string) error {
	n, err := strconv.ParseUint(s, 0, 32)
	if err != nil {
		return fmt.Errorf("%q is no 32-bit number, as in %#x", s, uint32(route.DefaultMark))
	}
	if _, err := route.ParseMarks(uint32(n)); err != nil {
		return err
	}
	*m = mask(n)
	return nil
}

// noHost is the value of --invite without a host.
const noHost = "HOST"

// invitation is the value of --invite: the host by which servers find the client, nil if the flag is not
// given.
type invitation struct{ host **string }

func (i invitation) String() string {
	if i.host == nil || *i.host == nil {
		return ""
	}
	return **i.host
}

// Type makes the help show that the flag may stand without a value.
func (i invitation) Type() string { return "bool" }

func (i invitation) Set(s string) error {
	switch s {
	case "":
		return errors.New("it has no host")
	case noHost:
		s = ""
	}
	*i.host = &s
	return nil
}
