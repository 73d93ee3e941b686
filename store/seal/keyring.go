package seal

import (
	"bytes"
	"crypto/fips140"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"filippo.io/age"

	"enclave/wire"
)

// What can be wrong with a keyring.
var (
	ErrNoIdentity    = errors.New("the state is sealed and no identity was given")
	ErrWrongIdentity = errors.New("this identity does not open the keyring")
	ErrKeyring       = errors.New("the keyring is damaged")
	ErrFIPS          = errors.New("the keyring's encryption (age) is not allowed in FIPS-only mode")
	ErrLast          = errors.New("it is the last recipient; nobody could open the state")
	ErrNotRecipient  = errors.New("no such recipient")
	ErrMixed         = errors.New("recipients of these kinds cannot share a keyring: a passphrase stands alone, and a post-quantum recipient is as weak as the weakest beside it")
)

const (
	keyringVersion = 1 // first release

	// Limits on reading. A hybrid recipient takes 2 KB outside and inside.
	maxKeyring    = 192 << 10
	maxRecipients = 32
	maxRoots      = 16
)

// Keyring holds the roots of one state and whom they are encrypted to. Add, Remove,
// Rewrap, Grow and Save are for one goroutine at a time, the other methods for many.
type Keyring struct {
	path string

	mu         sync.RWMutex // guards what follows
	recipients []Recipient
	roots      []numbered // the newest last
}

type numbered struct {
	*Root
	number uint32
	made   time.Time
	values valueCipher
}

func newNumbered(r *Root, number uint32, made time.Time) numbered {
	return numbered{r, number, made, newValueCipher(r)}
}

// wipe overwrites the root and what was derived from it.
func (n numbered) wipe() {
	n.Root.Wipe()
	n.values.wipe()
}

// keyringFile is the plaintext of a keyring.
type keyringFile struct {
	Version    int        `json:"version"`
	Recipients []string   `json:"recipients"`
	Roots      []rootFile `json:"roots"`
}

type rootFile struct {
	Number uint32    `json:"number"`
	Made   time.Time `json:"made"`
	Root   []byte    `json:"root"`
}

// NewKeyring makes a keyring with one root, in memory until Save.
func NewKeyring(path string, now time.Time, recipients ...Recipient) *Keyring {
	return &Keyring{path: path, recipients: recipients, roots: []numbered{rootMade(1, now)}}
}

func rootMade(number uint32, now time.Time) numbered {
	return newNumbered(NewRoot(), number, now.UTC().Truncate(time.Second))
}

func (k *Keyring) newest() numbered { return k.roots[len(k.roots)-1] }

// ReadKeyring opens the keyring at path with one of the identities.
func ReadKeyring(path string, ids []Identity) (*Keyring, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sealed, err := io.ReadAll(io.LimitReader(f, maxKeyring+1))
	if err != nil {
		return nil, err
	}
	k, err := openKeyring(sealed, ids)
	if err != nil {
		return nil, err
	}
	k.path = path
	return k, nil
}

// openKeyring is the pure half of ReadKeyring.
func openKeyring(sealed []byte, ids []Identity) (*Keyring, error) {
	if fips140.Enforced() {
		return nil, ErrFIPS
	}
	if len(sealed) > maxKeyring {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrKeyring, maxKeyring)
	}
	// Each recipient begins with this mark; every identity tries every one of them.
	if n := bytes.Count(sealed, []byte("\n-> ")); n > 2*maxRecipients {
		return nil, fmt.Errorf("%w: %d recipients", ErrKeyring, n)
	}
	if len(ids) == 0 {
		return nil, ErrNoIdentity
	}
	list := make([]age.Identity, len(ids))
	for i, id := range ids {
		list[i] = id.Identity
	}
	r, err := age.Decrypt(bytes.NewReader(sealed), list...)
	if miss := (*age.NoIdentityMatchError)(nil); errors.As(err, &miss) {
		return nil, ErrWrongIdentity
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrKeyring, err)
	}
	plain, err := io.ReadAll(io.LimitReader(r, maxKeyring))
	defer clear(plain)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrKeyring, err)
	}
	k, err := parseKeyring(plain)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrKeyring, err)
	}
	for i := range k.recipients { // a passphrase is needed to encrypt again
		for _, id := range ids {
			if id.Recipient.text == passphrase && k.recipients[i].text == passphrase {
				k.recipients[i] = id.Recipient
			}
		}
	}
	return k, nil
}

// parseKeyring reads the plaintext. Its errors never quote it.
func parseKeyring(plain []byte) (*Keyring, error) {
	var f keyringFile
	if err := wire.Unmarshal(plain, &f); err != nil {
		return nil, errors.New("it is no document of ours")
	}
	if f.Version != keyringVersion {
		return nil, fmt.Errorf("its version is %d, this program reads %d", f.Version, keyringVersion)
	}
	if len(f.Roots) == 0 || len(f.Roots) > maxRoots || len(f.Recipients) == 0 || len(f.Recipients) > maxRecipients {
		return nil, fmt.Errorf("%d roots for %d recipients", len(f.Roots), len(f.Recipients))
	}
	k := new(Keyring)
	for _, text := range f.Recipients {
		r := Recipient{text: text}
		if text != passphrase {
			var err error
			if r, err = ParseRecipient(text); err != nil {
				return nil, err
			}
		}
		k.recipients = append(k.recipients, r)
	}
	for _, rf := range f.Roots {
		if err := k.take(rf); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// append writes the keyring, and one root more of it or none, to b, encrypted to its
// recipients.
func (k *Keyring) append(b []byte, more ...numbered) ([]byte, error) {
	if fips140.Enforced() {
		return nil, ErrFIPS
	}
	f := keyringFile{Version: keyringVersion}
	var to []age.Recipient
	for _, r := range k.Recipients() {
		a, err := r.age()
		if err != nil {
			return nil, err
		}
		to, f.Recipients = append(to, a), append(f.Recipients, r.text)
	}
	k.mu.RLock()
	for _, r := range slices.Concat(k.roots, more) {
		f.Roots = append(f.Roots, rootFile{r.number, r.made, r.secret[:]})
	}
	plain, err := json.Marshal(f)
	k.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	out := bytes.NewBuffer(b)
	w, err := age.Encrypt(out, to...)
	if err != nil {
		return nil, ErrMixed // the texts are valid, so it can only be that
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Save replaces the file. A crash leaves the old one or the new one.
func (k *Keyring) Save() error {
	b, err := k.append(nil)
	if err != nil {
		return err
	}
	return ReplaceFile(k.path, b)
}

// Rewrap lets change add and remove recipients, and saves. ready is called when the new
// keyring can be written and before it is. On an error the recipients are as before.
func (k *Keyring) Rewrap(change, ready func() error) (err error) {
	before := k.Recipients()
	defer func() {
		if err != nil {
			k.mu.Lock()
			k.recipients = before
			k.mu.Unlock()
		}
	}()
	if err := change(); err != nil {
		return err
	}
	b, err := k.append(nil)
	if err != nil {
		return err
	}
	if err := ready(); err != nil {
		return err
	}
	return ReplaceFile(k.path, b)
}

// Recipients returns whom the keyring is encrypted to.
func (k *Keyring) Recipients() []Recipient {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return slices.Clone(k.recipients)
}

// Add makes r a recipient, or the only one. Nothing is kept until Save.
func (k *Keyring) Add(r Recipient, only bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if only {
		k.recipients = nil
	}
	if i := slices.IndexFunc(k.recipients, func(have Recipient) bool { return have.text == r.text }); i >= 0 {
		k.recipients = slices.Clone(k.recipients)
		k.recipients[i] = r
		return nil
	}
	if len(k.recipients) == maxRecipients {
		return fmt.Errorf("a keyring has at most %d recipients", maxRecipients)
	}
	k.recipients = append(slices.Clone(k.recipients), r)
	return nil
}

// Remove takes a recipient out. Whoever has an older copy of the keyring still opens
// that with it; only a rotation makes such a copy worthless for what is written later.
func (k *Keyring) Remove(text string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := slices.IndexFunc(k.recipients, func(have Recipient) bool { return have.text == text })
	if i < 0 {
		return ErrNotRecipient
	}
	if len(k.recipients) == 1 {
		return ErrLast
	}
	k.recipients = slices.Delete(slices.Clone(k.recipients), i, i+1)
	return nil
}

// Newest returns the root that new files are sealed under, its number and age.
func (k *Keyring) Newest() (root *Root, number uint32, made time.Time) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if len(k.roots) == 0 {
		return nil, 0, time.Time{}
	}
	n := k.newest()
	return n.Root, n.number, n.made
}

// Roots returns the numbers of the roots, the newest last. More than one means that a
// rotation did not come to its end.
func (k *Keyring) Roots() []uint32 {
	k.mu.RLock()
	defer k.mu.RUnlock()
	var out []uint32
	for _, n := range k.roots {
		out = append(out, n.number)
	}
	return out
}

// Grow adds a root, for a rotation, and saves. The older ones stay until Retire. The file has
// the new one before anything is sealed under it: others seal values meanwhile, and one
// whose root was lost in a crash would never open.
func (k *Keyring) Grow(now time.Time) error {
	have := k.Roots()
	switch len(have) {
	case 0:
		return ErrWiped
	case maxRoots:
		return fmt.Errorf("%w: it has %d roots", ErrKeyring, maxRoots)
	}
	n := rootMade(have[len(have)-1]+1, now)
	b, err := k.append(nil, n)
	if err == nil {
		err = ReplaceFile(k.path, b)
	}
	if err != nil {
		n.wipe()
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.roots = append(k.roots, n)
	return nil
}

// Retire drops every root but the newest.
func (k *Keyring) Retire() {
	k.mu.Lock()
	defer k.mu.Unlock()
	last := len(k.roots) - 1
	for _, r := range k.roots[:last] {
		r.wipe()
	}
	k.roots = slices.Clone(k.roots[last:])
}

// Wipe overwrites every root; the keyring is of no use afterwards.
func (k *Keyring) Wipe() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.roots {
		r.wipe()
	}
	k.roots, k.recipients = nil, nil // a passphrase is among them
}

// Format keeps the roots out of whatever prints a keyring, under any verb.
func (k *Keyring) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "seal.Keyring(%d roots, %d recipients)", len(k.roots), len(k.recipients))
}
