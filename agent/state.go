package agent

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"enclave/wire"
)

// ErrDamaged is returned for a state that cannot be read. The file is left as it is.
var ErrDamaged = errors.New("the agent's state is damaged")

// Keeper keeps an agent's state between runs. Load returns fs.ErrNotExist where
// there is none yet.
type Keeper interface {
	Load() ([]byte, error)
	Save(state []byte) error
}

// stateVersion of the stored state.
//
//	1  first release
const stateVersion = 1

// state is what an agent remembers: who it is, what it was last told and how far
// it has seen the revisions go, so that it starts without control and never back.
type state struct {
	Version   int    `json:"version"`
	Identity  []byte `json:"identity"`  // Ed25519 seed
	WireGuard []byte `json:"wireguard"` // Curve25519 private key
	Disco     []byte `json:"disco"`     // Curve25519 private key

	Control     string          `json:"control,omitempty"`     // control plane it enrolled with
	Fingerprint string          `json:"fingerprint,omitempty"` // of its root
	System      wire.SystemID   `json:"system,omitempty"`
	Org         wire.OrgID      `json:"org,omitempty"`
	SVID        [][]byte        `json:"svid,omitempty"`
	Roots       [][]byte        `json:"roots,omitempty"`
	Seen        wire.Revision   `json:"seen,omitempty"` // highest revision ever applied
	Map         json.RawMessage `json:"map,omitempty"`  // wire.Map
	MapAt       time.Time       `json:"map_at,omitzero"`
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

// loadState reads the state, or makes and saves a new one. Keys are on disk before
// anything is bought with them: an agent that dies between enrolling and saving the
// answer asks again with the same identity and uses nothing up.
func loadState(k Keeper) (*state, error) {
	raw, err := k.Load()
	if errors.Is(err, fs.ErrNotExist) {
		s, err := newState()
		if err != nil {
			return nil, err
		}
		return s, s.save(k)
	}
	if err != nil {
		return nil, fmt.Errorf("read the agent's state: %w", err)
	}
	s := new(state)
	if err := wire.Unmarshal(raw, s); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	if s.Version > stateVersion {
		return nil, fmt.Errorf("%w: written by a newer version (%d, this one reads %d)", ErrDamaged, s.Version, stateVersion)
	}
	if len(s.Identity) != ed25519.SeedSize || len(s.WireGuard) != 32 || len(s.Disco) != 32 {
		return nil, fmt.Errorf("%w: a key has the wrong size", ErrDamaged)
	}
	return s, nil
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
	var k wire.Keys
	id := ed25519.NewKeyFromSeed(s.Identity)
	copy(k.Identity[:], id.Public().(ed25519.PublicKey))
	for _, pair := range []struct {
		priv []byte
		pub  []byte
	}{{s.WireGuard, k.WireGuard[:]}, {s.Disco, k.Disco[:]}} {
		priv, err := ecdh.X25519().NewPrivateKey(pair.priv)
		if err != nil {
			return k, fmt.Errorf("%w: %v", ErrDamaged, err)
		}
		copy(pair.pub, priv.PublicKey().Bytes())
	}
	k.Signature = ed25519.Sign(id, wire.KeyStatement(k.Identity, k.WireGuard, k.Disco))
	return k, nil
}

// FileKeeper keeps the state in a file of mode 0600, replaced whole.
type FileKeeper string

// Load reads the file.
func (f FileKeeper) Load() ([]byte, error) { return os.ReadFile(string(f)) }

// Save writes a new file beside the old one, syncs it and renames it over: a crash
// leaves the old state or the new one.
func (f FileKeeper) Save(b []byte) error {
	dir := filepath.Dir(string(f))
	tmp, err := os.CreateTemp(dir, ".agent-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // gone already after the rename
	if _, err := tmp.Write(b); err != nil {
		tmp.Close()
		return err
	}
	if err := errors.Join(tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), string(f)); err != nil {
		return err
	}
	return syncDir(dir)
}

// MemoryKeeper keeps the state in memory, for demos and tests.
type MemoryKeeper struct{ b []byte }

// Load returns what was saved last.
func (m *MemoryKeeper) Load() ([]byte, error) {
	if m.b == nil {
		return nil, fs.ErrNotExist
	}
	return bytes.Clone(m.b), nil
}

// Save replaces the state.
func (m *MemoryKeeper) Save(b []byte) error { m.b = bytes.Clone(b); return nil }
