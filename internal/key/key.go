// Package key has the keys of clients and servers, and says which clients a server
// knows and what each may do.
//
// A private key is a file that its owner alone can read; a public key is a word of 44
// letters, which is passed around, as with WireGuard. Underneath they are Ed25519 (RFC
// 8032): a seed, and the point that belongs to it.
package key

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"strings"
)

// Public is a public key.
type Public [ed25519.PublicKeySize]byte

// String is the key as it is passed around.
func (p Public) String() string { return base64.StdEncoding.EncodeToString(p[:]) }

// privateMark stands before a private key, so that none is taken for a public one, which
// would make it known, nor the other way round, which would make it everybody's.
const privateMark = "private:"

// Parse reads a public key.
func Parse(s string) (Public, error) {
	if strings.HasPrefix(s, privateMark) {
		return Public{}, errors.New("that is a private key: give the public one, and make a new private one, for this may have been seen")
	}
	b, err := decode(s)
	if err != nil {
		return Public{}, fmt.Errorf("%q is no public key: %w", s, err)
	}
	return Public(b), nil
}

// decode reads the 32 bytes of a key of either kind.
func decode(s string) ([]byte, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	// The length of both: package base64 skips the ends of lines, however strict.
	if err != nil || len(b) != ed25519.PublicKeySize || len(s) != base64.StdEncoding.EncodedLen(len(b)) {
		return nil, errors.New("one is 44 letters, as `portredirector keygen` prints it")
	}
	return b, nil
}

// Of is the public key in a certificate or elsewhere; false if it is of another kind.
func Of(k any) (Public, bool) {
	p, ok := k.(ed25519.PublicKey)
	if !ok || len(p) != ed25519.PublicKeySize {
		return Public{}, false
	}
	return Public(p), true
}

// Private is a private key.
type Private struct{ ed25519.PrivateKey }

// Public is the public key that belongs to it.
func (p Private) Public() Public {
	k, _ := Of(p.PrivateKey.Public())
	return k
}

// New makes a private key.
func New() Private {
	_, p, _ := ed25519.GenerateKey(nil) // never fails: crypto/rand ends the program instead
	return Private{p}
}

// Other says what is wrong with a key that is given for another end's.
func (p Private) Other(k Public) error {
	if k == p.Public() {
		return fmt.Errorf("%s is this end's own public key: give the other end's", k)
	}
	return nil
}

// Generate makes a private key and writes it to a new file.
func Generate(path string) (Public, error) {
	p := New()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return Public{}, fmt.Errorf("%s exists already, and is left as it is", path)
	}
	if err != nil {
		return Public{}, err
	}
	_, err = fmt.Fprintf(f, "# The private key of portredirector. Its public key:\n# %s\n%s%s\n",
		p.Public(), privateMark, base64.StdEncoding.EncodeToString(p.Seed()))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return Public{}, errors.Join(err, os.Remove(path))
	}
	return p.Public(), nil
}

// Load reads a private key. A file that everybody can read is refused, and one that a
// group can change. That a group can read it may be wanted (systemd's credentials have
// an access list, which looks like that, acl(5)).
func Load(path string) (Private, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrPermission) {
		return Private{}, fmt.Errorf("%w: user %d has to be its owner (chown), or this be run as its owner (in a container by --user)", err, os.Geteuid())
	}
	if err != nil {
		return Private{}, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return Private{}, err
	}
	if info.Mode().Perm()&0o027 != 0 {
		return Private{}, fmt.Errorf("%s can be read or changed by others: chmod 600 %s", path, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, longestFile))
	if err != nil {
		return Private{}, err
	}
	return parsePrivate(path, text)
}

// longestFile bounds what is read of a private key's file.
const longestFile = 4096

// parsePrivate reads the text of a private key's file.
func parsePrivate(path string, text []byte) (Private, error) {
	var words []string
	for _, line := range lines(text) {
		words = append(words, line)
	}
	if len(words) != 1 {
		return Private{}, fmt.Errorf("%s is no private key: it has %d lines beside comments, not one", path, len(words))
	}
	seed, err := decode(strings.TrimPrefix(words[0], privateMark))
	if _, public := Parse(words[0]); public == nil {
		return Private{}, fmt.Errorf("%s is no private key, but a public one", path)
	}
	if err != nil {
		return Private{}, fmt.Errorf("%s is no private key: `portredirector keygen` makes one", path)
	}
	return Private{ed25519.NewKeyFromSeed(seed)}, nil
}

// lines are the lines of a text that say something, with their numbers from 1 on.
func lines(text []byte) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		number := 0
		for line := range bytes.Lines(text) {
			number++
			said, _, _ := bytes.Cut(line, []byte("#"))
			if said = bytes.TrimSpace(said); len(said) > 0 && !yield(number, string(said)) {
				return
			}
		}
	}
}
