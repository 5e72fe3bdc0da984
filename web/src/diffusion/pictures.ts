// The page's pictures, decoded once each.

const decoded = new Map<string, Promise<HTMLImageElement>>();

/** The picture at a `data:` address. */
export function picture(address: string): Promise<HTMLImageElement> {
  const known = decoded.get(address);
  if (known) return known;
  const image = new Image();
  image.src = address;
  const ready = image.decode().then(() => image);
  decoded.set(address, ready);
  return ready;
}
