"""Make corpus/shards: indexes over the two shards that the target makes."""

from seeds import GOLDEN, write_seeds

MAPS = {
    "both": '{"metadata":{"total_size":3},"weight_map":{"a":"s1","b":"s1","c":"s2"}}',
    "one": '{"weight_map":{"a":"s1"}}',
    "swapped": '{"weight_map":{"c":"s1","a":"s2"}}',
    "no-tensors": '{"weight_map":{"a":"no"}}',
    "itself": '{"weight_map":{"a":"index"}}',
    "missing": '{"weight_map":{"a":"s3"}}',
    "escape": '{"weight_map":{"a":"../s1"}}',
    "escaped": '{"weight_map":{"\\u0061":"s\\u0031"}}',
    "values": '{"metadata":{"a":1,"b":-1,"c":1.5e3,"d":"x","e":null,"f":[{}],"g":true},'
    '"weight_map":{}}',
    "twice": '{"weight_map":{"a":"s1","a":"s2"}}',
}

if __name__ == "__main__":
    seeds = {name: text.encode() for name, text in MAPS.items()}
    for path in sorted(GOLDEN.glob("*/*.index.json")):
        seeds[f"{path.parent.name}-{path.name}"] = path.read_bytes()
    write_seeds("shards", seeds)
