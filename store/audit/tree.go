package audit

import (
	"crypto/sha256"
	"errors"
	"math/bits"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// Leaf is what the tree has of a record: the leaf hash (RFC 6962, 2.1) of its hash.
func Leaf(record Hash) tlog.Hash {
	var b [1 + sha256.Size]byte // 0x00 begins a leaf
	copy(b[1:], record[:])
	return sha256.Sum256(b[:])
}

// Tree is a tree that grows, as the roots of its complete subtrees, largest first: all
// that is needed to append and to know the root. The zero Tree is empty.
type Tree struct {
	n    int64
	tops []tlog.Hash // one for each bit of n
}

// ErrTree is returned for subtrees that do not fit a size.
var ErrTree = errors.New("these are not the subtrees of a tree of that size")

// TreeOf continues a tree of n records from the roots of its complete subtrees.
func TreeOf(n int64, tops []tlog.Hash) (Tree, error) {
	if n < 0 || bits.OnesCount64(uint64(n)) != len(tops) {
		return Tree{}, ErrTree
	}
	return Tree{n, slices.Clone(tops)}, nil
}

// Append adds the hash of a record.
func (t *Tree) Append(record Hash) {
	h := Leaf(record)
	for n := t.n; n&1 == 1; n >>= 1 {
		last := len(t.tops) - 1
		h = node(t.tops[last], h)
		t.tops = t.tops[:last]
	}
	t.tops = append(t.tops, h)
	t.n++
}

// AppendLeaf adds a leaf and returns the nodes that it completes, lowest first: the
// order in which tlog stores them.
func (t *Tree) AppendLeaf(leaf tlog.Hash) (made []tlog.Hash) {
	h := leaf
	for n := t.n; n&1 == 1; n >>= 1 {
		last := len(t.tops) - 1
		h = node(t.tops[last], h)
		t.tops = t.tops[:last]
		made = append(made, h)
	}
	t.tops = append(t.tops, h)
	t.n++
	return made
}

// Size is the number of records.
func (t *Tree) Size() int64 { return t.n }

// Tops returns the roots of the complete subtrees, largest first.
func (t *Tree) Tops() []tlog.Hash { return slices.Clone(t.tops) }

// Clone returns a tree that grows on its own.
func (t *Tree) Clone() Tree { return Tree{t.n, slices.Clone(t.tops)} }

// Root is the Merkle tree hash (RFC 6962, 2.1); that of nothing is the hash of nothing.
func (t *Tree) Root() tlog.Hash {
	if t.n == 0 {
		return sha256.Sum256(nil)
	}
	h := t.tops[len(t.tops)-1]
	for i := len(t.tops) - 2; i >= 0; i-- {
		h = node(t.tops[i], h)
	}
	return h
}

func node(left, right tlog.Hash) tlog.Hash {
	var b [1 + 2*sha256.Size]byte
	b[0] = 1 // begins a node
	copy(b[1:], left[:])
	copy(b[1+sha256.Size:], right[:])
	return sha256.Sum256(b[:])
}

// TopIndexes are the places, in tlog's order of stored hashes, of what TreeOf takes for
// a tree of n records.
func TopIndexes(n int64) []int64 {
	var list []int64
	var done int64
	for level := 62; level >= 0; level-- {
		if size := int64(1) << level; n&size != 0 {
			list = append(list, tlog.StoredHashIndex(level, done>>level))
			done += size
		}
	}
	return list
}
