package dtlslink

import (
	"bytes"
	"crypto/sha256"
	"encoding/gob"
	"errors"
	"fmt"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/prf"
)

// suites lists the cipher suites whose records this package can seal. The kind of the
// certificate selects one.
var suites = []dtls.CipherSuiteID{
	dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	dtls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
}

// Sizes of the keys of suites (RFC 5288).
const (
	keySize  = 16
	saltSize = 4
)

// exported is the part of an exported dtls.State from which the keys are derived. Its field
// names are those of package dtls.
type exported struct {
	LocalRandom        [32]byte
	RemoteRandom       [32]byte
	CipherSuiteID      uint16
	MasterSecret       []byte
	LocalConnectionID  []byte
	RemoteConnectionID []byte
	IsClient           bool
	NegotiatedProtocol string
}

// keys holds the protectors of both directions.
type keys struct {
	seal *sealer
	open *opener
}

var (
	errNoIDs    = errors.New("the other end is another program: it has no connection ids")
	errProtocol = errors.New("the other end is another program or of another version")
)

// exportKeys derives the record keys of a finished handshake (RFC 5246, 6.3).
func exportKeys(conn *dtls.Conn, protocol string) (keys, error) {
	state, ok := conn.ConnectionState()
	if !ok {
		return keys{}, errors.New("the handshake has no state")
	}
	b, err := state.MarshalBinary()
	if err != nil {
		return keys{}, err
	}
	var e exported
	if err := gob.NewDecoder(bytes.NewReader(b)).Decode(&e); err != nil {
		return keys{}, fmt.Errorf("export the keys: %w", err)
	}
	switch {
	case e.NegotiatedProtocol != protocol:
		return keys{}, errProtocol
	case len(e.LocalConnectionID) != cidSize || len(e.RemoteConnectionID) != cidSize:
		return keys{}, errNoIDs
	case len(e.MasterSecret) == 0:
		return keys{}, errors.New("export the keys: the state has no secret")
	}
	client, server := e.LocalRandom[:], e.RemoteRandom[:]
	if !e.IsClient {
		client, server = server, client
	}
	k, err := prf.GenerateEncryptionKeys(e.MasterSecret, client, server, 0, keySize, saltSize, sha256.New)
	if err != nil {
		return keys{}, err
	}
	ours, theirs := [2][]byte{k.ClientWriteKey, k.ClientWriteIV}, [2][]byte{k.ServerWriteKey, k.ServerWriteIV}
	if !e.IsClient {
		ours, theirs = theirs, ours
	}
	seal, err := newProtector(ours[0], ours[1], cid(e.RemoteConnectionID))
	if err != nil {
		return keys{}, err
	}
	open, err := newProtector(theirs[0], theirs[1], cid(e.LocalConnectionID))
	if err != nil {
		return keys{}, err
	}
	return keys{&sealer{seal, epoch1 | firstNumber}, &opener{protector: open}}, nil
}
