// A picture with a map on it, in a canvas that has the size of the PNG file that the command writes.
import { useEffect, useRef } from "preact/hooks";
import { type Colour, type MapData, enlargement, paint, veil } from "../../shared/heat";
import { picture } from "../pictures";

export interface Palette {
  readonly table: Uint8Array;
  readonly veil: { readonly colour: Colour; readonly opacity: number };
}

interface Props {
  readonly label: string;
  readonly address: string;
  readonly map: MapData | null;
  readonly palette: Palette;
  /** 0…1 */
  readonly opacity: number;
  /** Longer side that the picture is brought near, in pixels. */
  readonly side: number;
}

export function Painted({ label, address, map, palette, opacity, side }: Props) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    // A later choice may be drawn before an earlier picture is decoded.
    let isCurrent = true;
    picture(address).then(
      (image) => {
        if (isCurrent && canvas.current) draw(canvas.current, image, map, palette, opacity, side);
      },
      () => {
        // A picture that cannot be decoded leaves an empty frame.
      },
    );
    return () => {
      isCurrent = false;
    };
  }, [address, map, palette, opacity, side]);
  return <canvas ref={canvas} role="img" aria-label={label} />;
}

function draw(
  canvas: HTMLCanvasElement,
  image: HTMLImageElement,
  map: MapData | null,
  palette: Palette,
  opacity: number,
  side: number,
): void {
  const { naturalWidth, naturalHeight } = image;
  const factor = enlargement(naturalWidth, naturalHeight, side);
  const size = [naturalWidth * factor, naturalHeight * factor] as const;
  [canvas.width, canvas.height] = size;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) return;
  context.imageSmoothingEnabled = false;
  context.drawImage(image, 0, 0, ...size);
  if (map === null) return;
  const pixels = context.getImageData(0, 0, ...size);
  if (map.w > 0) paint(pixels.data, size, map, palette.table, opacity);
  else veil(pixels.data, palette.veil.colour, palette.veil.opacity);
  context.putImageData(pixels, 0, 0);
}
