// Command tlogcheck reads a log as any client of C2SP tlog-tiles would, and checks it by Go's own implementation of notes and trees
// (golang.org/x/mod/sumdb): nothing here is shared with the server that it reads from.
//
//	tlogcheck <prefix> <directory of earlier checkpoints> [<header>: <value>]
//
// It opens the newest checkpoint, proves entries to be in its tree, and the trees of all earlier checkpoints to be its beginning; keeps
// the checkpoint in the directory; and prints what it did as JSON. It ends with status 1 and a reason where anything is wrong.
package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
	// Proofs of records cost more than their hashes: of larger logs, some are proved and all are hashed.
	proveAllBelow = 1000
	proveEvery    = 61
)

func main() {
	log.SetFlags(0)
	result, err := check(os.Args[1], os.Args[2], os.Args[3:])
	if err != nil {
		log.Fatal(err)
	}
	json.NewEncoder(os.Stdout).Encode(result)
}

type result struct {
	Origin     string  `json:"origin"`
	Size       int64   `json:"size"`
	Hashed     int64   `json:"hashed"`
	Proved     int64   `json:"proved"`
	Consistent []int64 `json:"consistent"`
}

func check(prefix, directory string, headers []string) (*result, error) {
	c := &client{prefix: prefix, headers: headers, tiles: map[string][]byte{}}
	vkey, err := c.get("vkey")
	if err != nil {
		return nil, err
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(vkey)))
	if err != nil {
		return nil, err
	}
	signed, err := c.get("checkpoint")
	if err != nil {
		return nil, err
	}
	origin, tree, err := open(signed, verifier)
	if err != nil {
		return nil, err
	}
	reader := tlog.TileHashReader(tree, c)
	r := &result{Origin: origin, Size: tree.N, Consistent: []int64{}}
	root, err := tlog.TreeHash(tree.N, reader)
	if err != nil {
		return nil, err
	}
	if root != tree.Hash {
		return nil, fmt.Errorf("the tiles give root %v, signed is %v", root, tree.Hash)
	}
	for bundle := int64(0); bundle*tileWidth < tree.N; bundle++ {
		if err := checkBundle(c, reader, tree, bundle, r); err != nil {
			return nil, err
		}
	}
	if err := checkEarlier(directory, verifier, reader, tree, r); err != nil {
		return nil, err
	}
	if tree.N == 0 {
		return r, nil // every tree begins with the empty one
	}
	return r, os.WriteFile(filepath.Join(directory, strconv.FormatInt(tree.N, 10)), signed, 0o600)
}

func open(signed []byte, verifier note.Verifier) (string, tlog.Tree, error) {
	opened, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return "", tlog.Tree{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) < 4 || lines[0] != verifier.Name() {
		return "", tlog.Tree{}, fmt.Errorf("not a checkpoint of %s: %q", verifier.Name(), opened.Text)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return "", tlog.Tree{}, err
	}
	hash, err := tlog.ParseHash(lines[2])
	return lines[0], tlog.Tree{N: size, Hash: hash}, err
}

// checkBundle compares each entry of a bundle with the tree, and proves some of them.
func checkBundle(c *client, reader tlog.HashReader, tree tlog.Tree, bundle int64, r *result) error {
	width := min(tileWidth, int(tree.N-bundle*tileWidth))
	data, err := c.get(pathOf(tlog.Tile{H: tileHeight, L: -1, N: bundle, W: width}))
	if err != nil {
		return err
	}
	indexes := make([]int64, width)
	for i := range indexes {
		indexes[i] = tlog.StoredHashIndex(0, bundle*tileWidth+int64(i))
	}
	hashes, err := reader.ReadHashes(indexes)
	if err != nil {
		return err
	}
	for i, want := range hashes {
		n := bundle*tileWidth + int64(i)
		if len(data) < 2 || len(data) < 2+int(binary.BigEndian.Uint16(data)) {
			return fmt.Errorf("bundle %d ends within its entry %d", bundle, i)
		}
		entry := data[2 : 2+int(binary.BigEndian.Uint16(data))]
		data = data[2+len(entry):]
		hash := tlog.RecordHash(entry)
		if hash != want {
			return fmt.Errorf("entry %d has hash %v, the tree has %v", n, hash, want)
		}
		r.Hashed++
		if tree.N >= proveAllBelow && n%proveEvery != 0 && n != tree.N-1 {
			continue
		}
		proof, err := tlog.ProveRecord(tree.N, n, reader)
		if err != nil {
			return err
		}
		if err := tlog.CheckRecord(proof, tree.N, tree.Hash, n, hash); err != nil {
			return fmt.Errorf("entry %d: %w", n, err)
		}
		r.Proved++
	}
	if len(data) != 0 {
		return fmt.Errorf("bundle %d has %d bytes too many", bundle, len(data))
	}
	return nil
}

// checkEarlier proves that the log only grew since each checkpoint that was kept.
func checkEarlier(directory string, verifier note.Verifier, reader tlog.HashReader, tree tlog.Tree, r *result) error {
	files, err := os.ReadDir(directory)
	if err != nil {
		return err
	}
	for _, file := range files {
		signed, err := os.ReadFile(filepath.Join(directory, file.Name()))
		if err != nil {
			return err
		}
		_, earlier, err := open(signed, verifier)
		if err != nil {
			return err
		}
		if earlier.N > tree.N {
			return fmt.Errorf("the log had %d entries, and now has %d", earlier.N, tree.N)
		}
		proof, err := tlog.ProveTree(tree.N, earlier.N, reader)
		if err != nil {
			return err
		}
		if err := tlog.CheckTree(proof, tree.N, tree.Hash, earlier.N, earlier.Hash); err != nil {
			return fmt.Errorf("the tree of %d does not begin with that of %d: %w", tree.N, earlier.N, err)
		}
		r.Consistent = append(r.Consistent, earlier.N)
	}
	return nil
}

// client reads a log over HTTP.
type client struct {
	prefix  string
	headers []string
	tiles   map[string][]byte
}

var _ tlog.TileReader = (*client)(nil)

func (c *client) Height() int { return tileHeight }

func (c *client) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for i, tile := range tiles {
		path := pathOf(tile)
		if kept, ok := c.tiles[path]; ok {
			data[i] = kept
			continue
		}
		got, err := c.get(path)
		if err != nil {
			return nil, err
		}
		data[i] = got
		c.tiles[path] = got
	}
	return data, nil
}

func (c *client) SaveTiles([]tlog.Tile, [][]byte) {}

// pathOf spells a path as C2SP does: without the height, and with entries for data.
func pathOf(tile tlog.Tile) string {
	path := strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/", tileHeight), "tile/", 1)
	return strings.Replace(path, "tile/data/", "tile/entries/", 1)
}

func (c *client) get(path string) ([]byte, error) {
	request, err := http.NewRequest(http.MethodGet, c.prefix+"/"+path, nil)
	if err != nil {
		return nil, err
	}
	for _, header := range c.headers {
		name, value, _ := strings.Cut(header, ": ")
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusOK {
		err = errors.Join(err, fmt.Errorf("%s: %s: %s", path, response.Status, body))
	}
	return body, err
}
