package engine

import (
	"math"
	"slices"
	"strconv"

	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/attr"
)

// units is a number of capacity units; as JSON it always has a fraction, as with the service.
type units float64

// MarshalJSON writes 1 as 1.0.
func (u units) MarshalJSON() ([]byte, error) {
	if u == units(math.Trunc(float64(u))) {
		return strconv.AppendFloat(nil, float64(u), 'f', 1, 64), nil
	}
	return strconv.AppendFloat(nil, float64(u), 'f', -1, 64), nil
}

type consumed struct {
	TableName          string
	CapacityUnits      units
	ReadCapacityUnits  *units         `json:",omitempty"`
	WriteCapacityUnits *units         `json:",omitempty"`
	Table              *tableCapacity `json:",omitempty"`
}

type tableCapacity struct {
	CapacityUnits      units
	ReadCapacityUnits  *units `json:",omitempty"`
	WriteCapacityUnits *units `json:",omitempty"`
}

// report gives the ConsumedCapacity of a request on one table, or nil if it was not asked for.
func report(asked, table string, n float64) *consumed {
	switch asked {
	case "TOTAL":
		return &consumed{TableName: table, CapacityUnits: units(n)}
	case "INDEXES":
		return &consumed{TableName: table, CapacityUnits: units(n), Table: &tableCapacity{CapacityUnits: units(n)}}
	}
	return nil
}

const (
	kilobyte  = 1024
	readBlock = 4 * kilobyte
)

// writeUnits is the cost of a write, by the larger of the item before and after it.
func writeUnits(items ...attr.Item) float64 {
	size := 0
	for _, it := range items {
		size = max(size, it.Size())
	}
	return float64(max(1, (size+kilobyte-1)/kilobyte))
}

// readUnits is the cost of reading size bytes.
func readUnits(size int, consistent bool) float64 {
	n := float64(max(1, (size+readBlock-1)/readBlock))
	if !consistent {
		n /= 2
	}
	return n
}

// perTable adds units up by table, for the requests that touch several.
type perTable struct {
	names []string
	units map[string]float64
}

func (p *perTable) add(table string, n float64) {
	if p.units == nil {
		p.units = map[string]float64{}
	}
	if _, ok := p.units[table]; !ok {
		p.names = append(p.names, table)
	}
	p.units[table] += n
}

func (p *perTable) total() (n float64) {
	for _, u := range p.units {
		n += u
	}
	return n
}

// reports gives the ConsumedCapacity list; write tells which of the two detail fields a transaction shows.
func (p *perTable) reports(asked string) (list []*consumed) {
	for _, name := range slices.Sorted(slices.Values(p.names)) {
		if r := report(asked, name, p.units[name]); r != nil {
			list = append(list, r)
		}
	}
	return list
}
