package engine

import (
	"math"
	"strconv"

	"github.com/dynalock/dynalock/dynalock/dynalocktest/internal/attr"
)

// units is a number of capacity units; as JSON it always has a fraction, as with the service.
type units float64

// MarshalJSON writes 1 as 1.0.
func (u units) MarshalJSON() ([]byte, error) {
	digits := -1
	if u == units(math.Trunc(float64(u))) {
		digits = 1
	}
	return strconv.AppendFloat(nil, float64(u), 'f', digits, 64), nil
}

type consumed struct {
	TableName     string
	CapacityUnits units
	Table         *tableCapacity `json:",omitempty"`
}

type tableCapacity struct{ CapacityUnits units }

// report gives the ConsumedCapacity of a request on one table, or nil if it was not asked for.
func report(asked, table string, n float64) *consumed {
	switch asked {
	case "TOTAL":
		return &consumed{table, units(n), nil}
	case "INDEXES":
		return &consumed{table, units(n), &tableCapacity{units(n)}}
	}
	return nil
}

const (
	writeBlock = 1024
	readBlock  = 4 * 1024
)

// writeUnits is the cost of a write, by the larger of the item before and after it.
func writeUnits(before, after attr.Item) float64 {
	size := max(before.Size(), after.Size())
	return float64(max(1, (size+writeBlock-1)/writeBlock))
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
type perTable map[string]float64

func (p *perTable) add(table string, n float64) {
	if *p == nil {
		*p = perTable{}
	}
	(*p)[table] += n
}

func (p perTable) total() (n float64) {
	for _, u := range p {
		n += u
	}
	return n
}

// reports gives the ConsumedCapacity list, or nil if it was not asked for.
func (p perTable) reports(asked string) (list []*consumed) {
	for _, name := range sorted(p) {
		if r := report(asked, name, p[name]); r != nil {
			list = append(list, r)
		}
	}
	return list
}
