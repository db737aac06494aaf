package auth

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

// PublicKey is a public key.
type PublicKey [ed25519.PublicKeySize]byte

// String is the key as it is passed around.
func (p PublicKey) String() string { return base64.StdEncoding.EncodeToString(p[:]) }

// privateMark stands before a private key, so that none is taken for a public one, which
// would make it known, nor the other way round, which would make it everybody's.
const privateMark = "private:"

// ParsePublicKey reads a public key.
func ParsePublicKey(s string) (PublicKey, error) {
	if strings.HasPrefix(s, privateMark) {
		return PublicKey{}, errors.New("that is a private key: give the public one, and make a new private one, for this may have been seen")
	}
	b, err := decode(s)
	if err != nil {
		return PublicKey{}, fmt.Errorf("%q is no public key: %w", s, err)
	}
	return PublicKey(b), nil
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

// PublicKeyOf is the public key in a certificate or elsewhere; false if it is of another kind.
func PublicKeyOf(k any) (PublicKey, bool) {
	p, ok := k.(ed25519.PublicKey)
	if !ok || len(p) != ed25519.PublicKeySize {
		return PublicKey{}, false
	}
	return PublicKey(p), true
}

// PrivateKey is a private key.
type PrivateKey struct{ ed25519.PrivateKey }

// Public is the public key that belongs to it.
func (p PrivateKey) Public() PublicKey {
	k, _ := PublicKeyOf(p.PrivateKey.Public())
	return k
}

// NewKey makes a private key.
func NewKey() PrivateKey {
	_, p, _ := ed25519.GenerateKey(nil) // never fails: crypto/rand ends the program instead
	return PrivateKey{p}
}

// Other says what is wrong with a key that is given for another end's.
func (p PrivateKey) Other(k PublicKey) error {
	if k == p.Public() {
		return fmt.Errorf("%s is this end's own public key: give the other end's", k)
	}
	return nil
}

// File returns the content of a private key's file.
func (p PrivateKey) File() []byte {
	return fmt.Appendf(nil, "# The private key of portredirector. Its public key:\n# %s\n%s%s\n",
		p.Public(), privateMark, base64.StdEncoding.EncodeToString(p.Seed()))
}

// GenerateKey makes a private key and writes it to a new file.
func GenerateKey(path string) (PublicKey, error) {
	p := NewKey()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return PublicKey{}, fmt.Errorf("%s exists already, and is left as it is", path)
	}
	if err != nil {
		return PublicKey{}, err
	}
	_, err = f.Write(p.File())
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return PublicKey{}, errors.Join(err, os.Remove(path))
	}
	return p.Public(), nil
}

// LoadKey reads a private key. A file that everybody can read is refused, and one that a
// group can change. That a group can read it may be wanted (systemd's credentials have
// an access list, which looks like that, acl(5)).
func LoadKey(path string) (PrivateKey, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrPermission) {
		return PrivateKey{}, fmt.Errorf("%w: user %d has to be its owner (chown), or the program has to run as its owner", err, os.Geteuid())
	}
	if err != nil {
		return PrivateKey{}, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return PrivateKey{}, err
	}
	if info.Mode().Perm()&0o027 != 0 {
		return PrivateKey{}, fmt.Errorf("%s can be read or changed by others: chmod 600 %s", path, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, longestFile))
	if err != nil {
		return PrivateKey{}, err
	}
	return parsePrivate(path, text)
}

// longestFile bounds what is read of a private key's file.
const longestFile = 4096

// parsePrivate reads the text of a private key's file.
func parsePrivate(path string, text []byte) (PrivateKey, error) {
	var words []string
	for _, line := range lines(text) {
		words = append(words, line)
	}
	if len(words) != 1 {
		return PrivateKey{}, fmt.Errorf("%s is no private key: it has %d lines beside comments, not one", path, len(words))
	}
	seed, err := decode(strings.TrimPrefix(words[0], privateMark))
	if _, public := ParsePublicKey(words[0]); public == nil {
		return PrivateKey{}, fmt.Errorf("%s is no private key, but a public one", path)
	}
	if err != nil {
		return PrivateKey{}, fmt.Errorf("%s is no private key: `portredirector keygen` makes one", path)
	}
	return PrivateKey{ed25519.NewKeyFromSeed(seed)}, nil
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
