package agent

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"enclave/wire"
	"enclave/wire/svid"
)

// ErrDamaged is returned for a state that cannot be read. The file is left as it is.
var ErrDamaged = errors.New("the agent's state is damaged")

// stateVersion of the stored state, docs/format/agent-state.md.
//
//	1  first release
//	2  witness
//	3  latest
const stateVersion = 3

// state is what an agent remembers: who it is, what it was last told and how far
// it has seen the revisions go, so that it starts without control and never back.
type state struct {
	Version   int    `json:"version"`
	Identity  []byte `json:"identity"`  // Ed25519 seed
	WireGuard []byte `json:"wireguard"` // Curve25519 private key
	Disco     []byte `json:"disco"`     // Curve25519 private key

	Control     string          `json:"control,omitempty"`     // control plane it enrolled with, where that was found last
	Fingerprint string          `json:"fingerprint,omitempty"` // of its root
	System      wire.SystemID   `json:"system,omitempty"`
	Org         wire.OrgID      `json:"org,omitempty"`
	SVID        [][]byte        `json:"svid,omitempty"`
	Roots       [][]byte        `json:"roots,omitempty"`
	Seen        wire.Revision   `json:"seen,omitempty"` // highest revision ever applied
	Map         json.RawMessage `json:"map,omitempty"`  // wire.Map
	MapAt       time.Time       `json:"map_at,omitzero"`
	Latest      time.Time       `json:"latest,omitzero"`   // the time it was last known to be (clock)
	Witness     *witness        `json:"witness,omitempty"` // of control's audit trail
}

// newState makes the keys of a new agent.
func newState() (*state, error) {
	s := &state{Version: stateVersion, Identity: make([]byte, ed25519.SeedSize)}
	rand.Read(s.Identity)
	for _, k := range []*[]byte{&s.WireGuard, &s.Disco} {
		priv, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		*k = priv.Bytes()
	}
	return s, nil
}

// loadState reads the state, or makes a fresh one that is not saved yet.
func loadState(k Keeper) (s *state, fresh bool, err error) {
	raw, err := k.Load()
	if errors.Is(err, fs.ErrNotExist) {
		s, err := newState()
		return s, true, err
	}
	if err != nil {
		return nil, false, fmt.Errorf("read the agent's state: %w", err)
	}
	s, err = parseState(raw)
	return s, false, err
}

// parseState reads a state. What it returns is whole: an agent can start from it.
func parseState(raw []byte) (*state, error) {
	var v struct {
		Version int `json:"version"`
	}
	// The version comes first: a newer one may have fields that this one does not know.
	if err := json.Unmarshal(raw, &v); err == nil && v.Version > stateVersion {
		return nil, fmt.Errorf("%w: written by a newer version (%d, this one reads %d)", ErrDamaged, v.Version, stateVersion)
	}
	s := new(state)
	if err := wire.Unmarshal(raw, s); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	if s.Version == 1 || s.Version == 2 { // which had no witness, and no latest
		s.Version = stateVersion
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return s, nil
}

func (s *state) check() error {
	switch {
	case s.Version != stateVersion:
		return fmt.Errorf("version %d, want %d", s.Version, stateVersion)
	case len(s.Identity) != ed25519.SeedSize || len(s.WireGuard) != 32 || len(s.Disco) != 32:
		return errors.New("a key has the wrong size")
	case s.System == "":
		return nil // not enrolled yet
	}
	if _, err := wire.ParseSystemID(string(s.System)); err != nil {
		return err
	}
	if _, err := svid.Pool(s.Roots); err != nil {
		return err
	}
	// Who writes to the disk can leave a state in clear, of before states were sealed. The
	// fingerprint is held against the one that the operator gives; this is what it is of.
	for _, der := range s.Roots {
		if s.Fingerprint != "" && svid.Fingerprint(der) != s.Fingerprint {
			return errors.New("a root in it is not the one that was enrolled with")
		}
	}
	own := wire.IdentityKey(ed25519.NewKeyFromSeed(s.Identity).Public().(ed25519.PublicKey))
	_, err := ownLeaf(s.SVID, own, s.System)
	return err
}

func (s *state) save(k Keeper) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := k.Save(raw); err != nil {
		return fmt.Errorf("save the agent's state: %w", err)
	}
	return nil
}

// keys returns the public keys with the statement that binds them.
func (s *state) keys() (wire.Keys, error) {
	var pub [2][32]byte
	for i, raw := range [][]byte{s.WireGuard, s.Disco} {
		priv, err := ecdh.X25519().NewPrivateKey(raw)
		if err != nil {
			return wire.Keys{}, fmt.Errorf("%w: %v", ErrDamaged, err)
		}
		pub[i] = [32]byte(priv.PublicKey().Bytes())
	}
	return svid.SignKeys(ed25519.NewKeyFromSeed(s.Identity), wire.WireGuardKey(pub[0]), wire.DiscoKey(pub[1])), nil
}
